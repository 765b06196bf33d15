% Domain   : Pelletier's problem 42
% Status   : Theorem
fof(goal, conjecture, ~ ? [Y] : ! [X] : (f(X, Y) <=> ~ ? [Z] : (f(X, Z) & f(Z, X)))).
