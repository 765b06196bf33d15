% Domain   : syllogisms, the mood Bocardo
% Status   : Theorem
fof(major, axiom, ? [X] : (cat(X) & ~ tailed(X))).
fof(minor, axiom, ! [X] : (cat(X) => mammal(X))).
fof(conclusion, conjecture, ? [X] : (mammal(X) & ~ tailed(X))).
