% Domain   : Pelletier's problem 25
% Status   : Theorem
fof(a1, axiom, ? [X] : p(X)).
fof(a2, axiom, ! [X] : (f(X) => (~ g(X) & r(X)))).
fof(a3, axiom, ! [X] : (p(X) => (g(X) & f(X)))).
fof(a4, axiom, (! [X] : (p(X) => q(X))) | ? [X] : (p(X) & r(X))).
fof(goal, conjecture, ? [X] : (q(X) & p(X))).
