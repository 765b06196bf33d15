% Domain   : Pelletier's problem 20
% Status   : Theorem
fof(a1, axiom, ! [X, Y] : ? [Z] : ! [W] : ((p(X) & q(Y)) => (r(Z) & s(W)))).
fof(goal, conjecture, (? [X, Y] : (p(X) & q(Y))) => ? [Z] : r(Z)).
