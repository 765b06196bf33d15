% Domain   : Pelletier's problem 16
% Status   : Theorem
fof(goal, conjecture, (p => q) | (q => p)).
