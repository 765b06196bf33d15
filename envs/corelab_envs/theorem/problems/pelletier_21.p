% Domain   : Pelletier's problem 21
% Status   : Theorem
fof(a1, axiom, ? [X] : (p => f(X))).
fof(a2, axiom, ? [X] : (f(X) => p)).
fof(goal, conjecture, ? [X] : (p <=> f(X))).
