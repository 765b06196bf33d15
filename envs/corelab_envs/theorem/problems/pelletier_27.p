% Domain   : Pelletier's problem 27
% Status   : Theorem
fof(a1, axiom, ? [X] : (f(X) & ~ g(X))).
fof(a2, axiom, ! [X] : (f(X) => h(X))).
fof(a3, axiom, ! [X] : ((j(X) & i(X)) => f(X))).
fof(a4, axiom, (? [X] : (h(X) & ~ g(X))) => ! [X] : (i(X) => ~ h(X))).
fof(goal, conjecture, ! [X] : (j(X) => ~ i(X))).
