% Domain   : orders: what is asymmetric is irreflexive
% Status   : Theorem
fof(asymmetric, axiom, ! [X, Y] : (less(X, Y) => ~ less(Y, X))).
fof(goal, conjecture, ! [X] : ~ less(X, X)).
