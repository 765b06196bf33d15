% Domain   : set theory
% Status   : Theorem
fof(subset, axiom, ! [A, B] : (subset(A, B) <=> ! [X] : (in(X, A) => in(X, B)))).
fof(goal, conjecture, ! [A] : subset(A, A)).
