% Domain   : arithmetic in successors: three is not proved even
% Status   : CounterSatisfiable
fof(zero, axiom, even(zero)).
fof(next, axiom, ! [X] : (even(X) => even(s(s(X))))).
fof(goal, conjecture, even(s(s(s(zero))))).
