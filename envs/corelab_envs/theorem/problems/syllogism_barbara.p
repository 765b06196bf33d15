% Domain   : syllogisms, the mood Barbara
% Status   : Theorem
fof(major, axiom, ! [X] : (man(X) => mortal(X))).
fof(minor, axiom, ! [X] : (greek(X) => man(X))).
fof(conclusion, conjecture, ! [X] : (greek(X) => mortal(X))).
