% Domain   : syllogisms, the mood Baroco
% Status   : Theorem
fof(major, axiom, ! [X] : (informative(X) => useful(X))).
fof(minor, axiom, ? [X] : (website(X) & ~ useful(X))).
fof(conclusion, conjecture, ? [X] : (website(X) & ~ informative(X))).
