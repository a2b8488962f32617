"use strict";
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = button.nextElementSibling.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without the right to write the clipboard the text is at least selected.
      getSelection().selectAllChildren(button.nextElementSibling);
      button.textContent = "Selected";
    }
  });
}
