% Domain   : Pelletier's problem 41
% Status   : Theorem
fof(a1, axiom, ! [Z] : ? [Y] : ! [X] : (f(X, Y) <=> (f(X, Z) & ~ f(X, X)))).
fof(goal, conjecture, ~ ? [Z] : ! [X] : f(X, Z)).
