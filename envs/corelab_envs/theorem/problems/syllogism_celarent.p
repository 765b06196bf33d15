% Domain   : syllogisms, the mood Celarent
% Status   : Theorem
fof(major, axiom, ! [X] : (reptile(X) => ~ furry(X))).
fof(minor, axiom, ! [X] : (snake(X) => reptile(X))).
fof(conclusion, conjecture, ! [X] : (snake(X) => ~ furry(X))).
