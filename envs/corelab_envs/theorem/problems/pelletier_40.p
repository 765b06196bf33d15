% Domain   : Pelletier's problem 40
% Status   : Theorem
fof(goal, conjecture, (? [Y] : ! [X] : (f(X, Y) <=> f(X, X))) => ~ ! [X] : ? [Y] : ! [Z] : (f(Z, Y) <=> ~ f(Z, X))).
