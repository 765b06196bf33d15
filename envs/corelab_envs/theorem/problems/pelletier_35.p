% Domain   : Pelletier's problem 35
% Status   : Theorem
fof(goal, conjecture, ? [X, Y] : (p(X, Y) => ! [Z, W] : p(Z, W))).
