"""The verbs of the command line, in the order in which --help lists them.

Each has a module of its name here, with its options beside its function. It is loaded when the verb
is asked for: all of them together would take --help half as long again.
"""

from __future__ import annotations

VERBS = {
    "init": "write a small feature repo to start from",
    "import-feast": "write a Feast repo as a featurekit repo, and say what came over",
    "plan": "show what apply would change, and what to know about each feature",
    "apply": "register the definitions and publish the services",
    "validate": "judge sources by their schemas and contracts",
    "contracts": "propose rules for sources, and take them from and to other tools",
    "contract": "show, verify and compare what a model was trained on: its feature contract",
    "list": "list features, or views, services, sources or entities",
    "describe": "show all there is to know of one of them",
    "search": "find features, views, services, sources and entities by words",
    "lineage": "show what features are made of, from the columns of sources on",
    "impact": "say what a change of a column would touch",
    "catalog": "write a catalogue of the features as static pages",
    "versions": "list the versions of a service",
    "history": "show who changed a feature, view or service, when, and how",
    "rollback": "serve an older version of a service again",
    "pin": "keep a version of a service fed for what needs it",
    "unpin": "let a version go that was pinned",
    "pins": "list the versions that are pinned, by what, and until when",
    "adopt": "rebuild a lost registry from the online store",
    "keys": "make and show the keys that plans are signed with",
    "audit": "show who did what to the project, and prove that no entry is gone",
    "gc": "remove online states and plans that no version in use needs",
    "materialize": "fill the online state up to an instant, and go live",
    "push": "add events of a source, online and to the offline log",
    "consume": "take events from a Redis stream, in a consumer group",
    "forget": "remove an entity's events and states, and keep them from coming back",
    "unlock": "show who works on which source, and let go of what the dead hold",
    "get-historical": "make a training set for a frame of entities and instants",
    "remake": "make a training set again from its manifest, or say what has changed",
    "get-online": "answer for some entities, from the online state",
    "serve": "answer over HTTP, as Feast's feature server does",
    "deploy": "say whether the online store can serve a model now",
    "compare": "show two models beside one another, by what they predicted",
    "explain": "show how one value came about, offline and online",
    "parity": "prove that both paths agree, or show where they do not",
    "monitor": "watch what is served: whether its values have moved away, and how it did",
    "watch": "look at what is served, and do what the triggers of the repo say",
    "triggers": "show what triggers did, and say yes or no to what waits for it",
    "outcomes": "keep what became of what was served",
    "pipeline": "show what runs again and again, and write it for an orchestrator",
    "completion": "print a script that completes verbs and options in your shell",
    "demo": "do all of it on the example shop",
}
