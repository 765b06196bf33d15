% Domain   : relations: symmetric, transitive and total is reflexive
% Status   : Theorem
fof(symmetric, axiom, ! [X, Y] : (r(X, Y) => r(Y, X))).
fof(transitive, axiom, ! [X, Y, Z] : ((r(X, Y) & r(Y, Z)) => r(X, Z))).
fof(total, axiom, ! [X] : ? [Y] : r(X, Y)).
fof(goal, conjecture, ! [X] : r(X, X)).
