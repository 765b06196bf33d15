% Domain   : Pelletier's problem 11
% Status   : Theorem
fof(goal, conjecture, p <=> p).
