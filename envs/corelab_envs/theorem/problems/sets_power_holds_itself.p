% Domain   : set theory
% Status   : Theorem
fof(subset, axiom, ! [A, B] : (subset(A, B) <=> ! [X] : (in(X, A) => in(X, B)))).
fof(power, axiom, ! [A, X] : (in(X, power(A)) <=> subset(X, A))).
fof(goal, conjecture, ! [A] : in(A, power(A))).
