% Domain   : Pelletier's problem 8
% Status   : Theorem
fof(goal, conjecture, ((p => q) => p) => p).
