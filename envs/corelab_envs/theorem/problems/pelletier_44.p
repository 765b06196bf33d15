% Domain   : Pelletier's problem 44
% Status   : Theorem
fof(a1, axiom, ! [X] : (f(X) => ((? [Y] : (g(Y) & h(X, Y))) & ? [Y] : (g(Y) & ~ h(X, Y))))).
fof(a2, axiom, ? [X] : (j(X) & ! [Y] : (g(Y) => h(X, Y)))).
fof(goal, conjecture, ? [X] : (j(X) & ~ f(X))).
