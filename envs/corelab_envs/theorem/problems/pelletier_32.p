% Domain   : Pelletier's problem 32
% Status   : Theorem
fof(a1, axiom, ! [X] : ((f(X) & (g(X) | h(X))) => i(X))).
fof(a2, axiom, ! [X] : ((i(X) & h(X)) => j(X))).
fof(a3, axiom, ! [X] : (k(X) => h(X))).
fof(goal, conjecture, ! [X] : ((f(X) & k(X)) => j(X))).
