% Domain   : Pelletier's problem 19
% Status   : Theorem
fof(goal, conjecture, ? [X] : ! [Y, Z] : ((p(Y) => q(Z)) => (p(X) => q(X)))).
