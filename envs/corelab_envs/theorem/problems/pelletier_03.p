% Domain   : Pelletier's problem 3
% Status   : Theorem
fof(goal, conjecture, ~ (p => q) => (q => p)).
