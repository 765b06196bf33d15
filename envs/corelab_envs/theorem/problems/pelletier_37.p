% Domain   : Pelletier's problem 37
% Status   : Theorem
fof(a1, axiom, ! [Z] : ? [W] : ! [X] : ? [Y] : ((p(X, Z) => p(Y, W)) & p(Y, Z) & (p(Y, W) => ? [U] : q(U, W)))).
fof(a2, axiom, ! [X, Z] : (~ p(X, Z) => ? [Y] : q(Y, Z))).
fof(a3, axiom, (? [X, Y] : q(X, Y)) => ! [X] : r(X, X)).
fof(goal, conjecture, ! [X] : ? [Y] : r(X, Y)).
