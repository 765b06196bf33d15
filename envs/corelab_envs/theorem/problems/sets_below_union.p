% Domain   : set theory
% Status   : Theorem
fof(subset, axiom, ! [A, B] : (subset(A, B) <=> ! [X] : (in(X, A) => in(X, B)))).
fof(union, axiom, ! [A, B, X] : (in(X, union(A, B)) <=> (in(X, A) | in(X, B)))).
fof(goal, conjecture, ! [A, B] : subset(A, union(A, B))).
