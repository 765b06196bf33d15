% Domain   : Pelletier's problem 4
% Status   : Theorem
fof(goal, conjecture, (~ p => q) <=> (~ q => p)).
