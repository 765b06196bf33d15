% Domain   : Pelletier's problem 24
% Status   : Theorem
fof(a1, axiom, ~ ? [X] : (s(X) & q(X))).
fof(a2, axiom, ! [X] : (p(X) => (q(X) | r(X)))).
fof(a3, axiom, ~ ? [X] : p(X) => ? [Y] : q(Y)).
fof(a4, axiom, ! [X] : ((q(X) | r(X)) => s(X))).
fof(goal, conjecture, ? [X] : (p(X) & r(X))).
