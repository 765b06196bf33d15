% Domain   : Pelletier's problem 31
% Status   : Theorem
fof(a1, axiom, ~ ? [X] : (f(X) & (g(X) | h(X)))).
fof(a2, axiom, ? [X] : (i(X) & f(X))).
fof(a3, axiom, ! [X] : (~ h(X) => j(X))).
fof(goal, conjecture, ? [X] : (i(X) & j(X))).
