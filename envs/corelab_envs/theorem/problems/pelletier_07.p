% Domain   : Pelletier's problem 7
% Status   : Theorem
fof(goal, conjecture, p | ~ ~ ~ p).
