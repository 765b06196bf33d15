% Domain   : Pelletier's problem 2
% Status   : Theorem
fof(goal, conjecture, ~ ~ p <=> p).
