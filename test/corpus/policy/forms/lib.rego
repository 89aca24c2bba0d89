package lib

base := input.base if input.base

default base := 5
