% Domain   : syllogisms, the mood Camestres
% Status   : Theorem
fof(major, axiom, ! [X] : (horse(X) => hooved(X))).
fof(minor, axiom, ! [X] : (human(X) => ~ hooved(X))).
fof(conclusion, conjecture, ! [X] : (human(X) => ~ horse(X))).
