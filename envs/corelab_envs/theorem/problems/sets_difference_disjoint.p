% Domain   : set theory
% Status   : Theorem
fof(subset, axiom, ! [A, B] : (subset(A, B) <=> ! [X] : (in(X, A) => in(X, B)))).
fof(difference, axiom, ! [A, B, X] : (in(X, difference(A, B)) <=> (in(X, A) & ~ in(X, B)))).
fof(intersection, axiom, ! [A, B, X] : (in(X, intersection(A, B)) <=> (in(X, A) & in(X, B)))).
fof(empty, axiom, ! [X] : ~ in(X, empty)).
fof(goal, conjecture, ! [A, B] : subset(intersection(B, difference(A, B)), empty)).
