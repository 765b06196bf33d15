% Domain   : set theory
% Status   : Theorem
fof(separation, axiom, ! [A] : ? [B] : ! [X] : (in(X, B) <=> (in(X, A) & ~ in(X, X)))).
fof(goal, conjecture, ~ ? [A] : ! [X] : in(X, A)).
