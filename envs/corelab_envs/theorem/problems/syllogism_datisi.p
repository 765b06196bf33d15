% Domain   : syllogisms, the mood Datisi
% Status   : Theorem
fof(major, axiom, ! [X] : (industrious(X) => virtuous(X))).
fof(minor, axiom, ? [X] : (industrious(X) & poor(X))).
fof(conclusion, conjecture, ? [X] : (poor(X) & virtuous(X))).
