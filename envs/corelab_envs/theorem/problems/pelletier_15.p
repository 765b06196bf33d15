% Domain   : Pelletier's problem 15
% Status   : Theorem
fof(goal, conjecture, (p => q) <=> (~ p | q)).
