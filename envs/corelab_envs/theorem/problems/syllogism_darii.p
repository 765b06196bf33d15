% Domain   : syllogisms, the mood Darii
% Status   : Theorem
fof(major, axiom, ! [X] : (rabbit(X) => furry(X))).
fof(minor, axiom, ? [X] : (pet(X) & rabbit(X))).
fof(conclusion, conjecture, ? [X] : (pet(X) & furry(X))).
