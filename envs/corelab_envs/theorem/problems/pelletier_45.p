% Domain   : Pelletier's problem 45
% Status   : Theorem
fof(a1, axiom, ! [X] : ((f(X) & ! [Y] : ((g(Y) & h(X, Y)) => j(X, Y))) => ! [Y] : ((g(Y) & h(X, Y)) => k(Y)))).
fof(a2, axiom, ~ ? [Y] : (l(Y) & k(Y))).
fof(a3, axiom, ? [X] : (f(X) & (! [Y] : (h(X, Y) => l(Y))) & ! [Y] : ((g(Y) & h(X, Y)) => j(X, Y)))).
fof(goal, conjecture, ? [X] : (f(X) & ~ ? [Y] : (g(Y) & h(X, Y)))).
