% Domain   : Pelletier's problem 28
% Status   : Theorem
fof(a1, axiom, ! [X] : (p(X) => ! [Z] : q(Z))).
fof(a2, axiom, (! [X] : (q(X) | r(X))) => ? [X] : (q(X) & s(X))).
fof(a3, axiom, (? [X] : s(X)) => ! [X] : (f(X) => g(X))).
fof(goal, conjecture, ! [X] : ((p(X) & f(X)) => g(X))).
