% Domain   : Pelletier's problem 29
% Status   : Theorem
fof(a1, axiom, (? [X] : f(X)) & ? [X] : g(X)).
fof(goal, conjecture, ((! [X] : (f(X) => h(X))) & (! [X] : (g(X) => j(X)))) <=> ! [X, Y] : ((f(X) & g(Y)) => (h(X) & j(Y)))).
