% Domain   : Pelletier's problem 26
% Status   : Theorem
fof(a1, axiom, (? [X] : p(X)) <=> ? [X] : q(X)).
fof(a2, axiom, ! [X, Y] : ((p(X) & q(Y)) => (r(X) <=> s(Y)))).
fof(goal, conjecture, (! [X] : (p(X) => r(X))) <=> ! [X] : (q(X) => s(X))).
