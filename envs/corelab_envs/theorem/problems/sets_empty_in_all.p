% Domain   : set theory
% Status   : Theorem
fof(subset, axiom, ! [A, B] : (subset(A, B) <=> ! [X] : (in(X, A) => in(X, B)))).
fof(empty, axiom, ! [X] : ~ in(X, empty)).
fof(goal, conjecture, ! [A] : subset(empty, A)).
