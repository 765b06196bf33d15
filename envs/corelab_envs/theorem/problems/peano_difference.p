% Domain   : arithmetic in successors
% Status   : Theorem
fof(zero, axiom, ! [X] : sum(zero, X, X)).
fof(successor, axiom, ! [X, Y, Z] : (sum(X, Y, Z) => sum(s(X), Y, s(Z)))).
fof(goal, conjecture, ? [X] : sum(s(s(zero)), X, s(s(s(s(s(zero))))))).
