% Domain   : syllogisms, the mood Ferio
% Status   : Theorem
fof(major, axiom, ! [X] : (homework(X) => ~ fun(X))).
fof(minor, axiom, ? [X] : (reading(X) & homework(X))).
fof(conclusion, conjecture, ? [X] : (reading(X) & ~ fun(X))).
