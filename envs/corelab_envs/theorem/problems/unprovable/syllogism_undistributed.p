% Domain   : syllogisms, the fallacy of the undistributed middle
% Status   : CounterSatisfiable
fof(major, axiom, ! [X] : (cat(X) => mammal(X))).
fof(minor, axiom, ! [X] : (dog(X) => mammal(X))).
fof(conclusion, conjecture, ! [X] : (dog(X) => cat(X))).
