% Domain   : set theory
% Status   : Theorem
fof(subset, axiom, ! [A, B] : (subset(A, B) <=> ! [X] : (in(X, A) => in(X, B)))).
fof(intersection, axiom, ! [A, B, X] : (in(X, intersection(A, B)) <=> (in(X, A) & in(X, B)))).
fof(goal, conjecture, ! [A, B] : subset(intersection(A, B), A)).
