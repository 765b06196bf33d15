% Domain   : Pelletier's problem 18, the drinker
% Status   : Theorem
fof(goal, conjecture, ? [Y] : ! [X] : (f(Y) => f(X))).
