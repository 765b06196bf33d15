% Domain   : Pelletier's problem 30
% Status   : Theorem
fof(a1, axiom, ! [X] : ((f(X) | g(X)) => ~ h(X))).
fof(a2, axiom, ! [X] : ((g(X) => ~ i(X)) => (f(X) & h(X)))).
fof(goal, conjecture, ! [X] : i(X)).
