'use strict';
// The search of the catalogue. CATALOGUE (search.js) has for each thing its kind, name, page, type,
// owner, description and further words. Everything is shown as text, never as markup.
(() => {
  const STEP = 100;
  const byId = (id) => document.getElementById(id);
  const box = byId('q'), list = byId('found'), count = byId('count'), all = byId('all'), more = byId('more');
  const things = window.CATALOGUE || [];
  const names = things.map((t) => t[1].toLowerCase());
  const texts = things.map((t) => t.join('\n').toLowerCase());
  let hits = [], shown = 0;

  function rank(i, words) {
    const name = names[i], own = name.slice(name.indexOf(':') + 1);
    if (own === words[0] || name === words[0]) return 0;
    if (own.startsWith(words[0])) return 1;
    return words.every((w) => name.includes(w)) ? 2 : 3;
  }

  function find(words) {
    const ranked = [[], [], [], []];
    for (let i = 0; i < texts.length; i++) {
      if (words.every((w) => texts[i].includes(w))) ranked[rank(i, words)].push(i);
    }
    return ranked.flat();
  }

  function element(tag, text, name) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function row([kind, name, page, type, owner, description]) {
    const link = element('a', '');
    link.href = page;
    link.append(element('b', name), element('span', `${kind} ${type}${owner ? `, ${owner}` : ''}`, 'note'));
    if (description) link.append(element('p', description));
    const item = document.createElement('li');
    item.append(link);
    return item;
  }

  function show() {
    list.append(...hits.slice(shown, shown + STEP).map((i) => row(things[i])));
    shown = Math.min(shown + STEP, hits.length);
    more.hidden = shown >= hits.length;
  }

  function search() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    list.replaceChildren();
    shown = 0;
    hits = words.length ? find(words) : [];
    list.hidden = !words.length;
    all.hidden = words.length > 0;
    count.textContent = words.length ? `${hits.length.toLocaleString('en')} found` : '';
    show();
    try { // a page of a file may not
      history.replaceState(null, '', words.length ? `#q=${encodeURIComponent(box.value)}` : '#');
    } catch { /* the search works without an address of its own */ }
  }

  function move(event) {
    const links = [...list.querySelectorAll('a')];
    const at = links.indexOf(document.activeElement);
    if (event.key === '/' && document.activeElement !== box) {
      box.focus();
      box.select();
    } else if (event.key === 'Escape') {
      box.value = '';
      search();
      box.focus();
    } else if (event.key === 'ArrowDown' && links.length && (at >= 0 || document.activeElement === box)) {
      links[Math.min(at + 1, links.length - 1)].focus();
    } else if (event.key === 'ArrowUp' && at >= 0) {
      (at ? links[at - 1] : box).focus();
    } else {
      return;
    }
    event.preventDefault();
  }

  function asked() {
    const [, hash] = location.hash.split('#q=');
    return new URLSearchParams(hash ? `q=${hash.replaceAll('+', '%2B')}` : location.search).get('q') || '';
  }

  box.form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (hits.length) location.href = things[hits[0]][2];
  });
  box.addEventListener('input', search);
  more.addEventListener('click', show);
  document.addEventListener('keydown', move);
  box.value = box.value || asked();
  if (box.value) search();
})();
