% Domain   : Pelletier's problem 1
% Status   : Theorem
fof(goal, conjecture, (p => q) <=> (~ q => ~ p)).
