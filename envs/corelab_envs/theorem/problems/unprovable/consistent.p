% Domain   : a set of formulas that has a model
% Status   : Satisfiable
fof(some, axiom, ? [X] : p(X)).
fof(all, axiom, ! [X] : (p(X) => q(X))).
fof(none, axiom, ! [X] : (r(X) => ~ q(X))).
