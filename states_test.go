package kiln

import "testing"

// Every pair of states is either in the table below or forbidden. R21
func TestInstanceMoves(t *testing.T) {
	allowed := map[[2]InstanceState]bool{
		{InstanceBooting, InstanceWarm}: true, {InstanceWarm, InstanceAssigned}: true, {InstanceAssigned, InstanceDraining}: true,
		{InstanceBooting, InstanceGone}: true, {InstanceWarm, InstanceGone}: true, {InstanceAssigned, InstanceGone}: true,
		{InstanceDraining, InstanceGone}: true,
	}
	for from := InstanceBooting; from <= InstanceGone; from++ {
		for to := InstanceBooting; to <= InstanceGone; to++ {
			if from.CanMove(to) != allowed[[2]InstanceState{from, to}] {
				t.Errorf("%v to %v: %v", from, to, from.CanMove(to))
			}
		}
	}
	for state, pool := range map[InstanceState]Pool{
		InstanceBooting: PoolWarming, InstanceWarm: PoolWarming, InstanceAssigned: PoolActive, InstanceDraining: PoolActive, InstanceGone: "",
	} {
		if state.Pool() != pool {
			t.Errorf("%v is in %q", state, state.Pool())
		}
	}
}

// Every pair of states is either in the table below or forbidden. R43
func TestContainerMoves(t *testing.T) {
	allowed := map[[2]ContainerState]bool{
		{ContainerPreparing, ContainerPrepared}: true, {ContainerPreparing, ContainerBinding}: true,
		{ContainerPrepared, ContainerBinding}: true, {ContainerBinding, ContainerIdle}: true, {ContainerBinding, ContainerBusy}: true,
		{ContainerIdle, ContainerBusy}: true, {ContainerBusy, ContainerIdle}: true,
		{ContainerIdle, ContainerPaused}: true, {ContainerPaused, ContainerIdle}: true,
		{ContainerIdle, ContainerDraining}: true, {ContainerBusy, ContainerDraining}: true, {ContainerPaused, ContainerDraining}: true,
	}
	for from := ContainerPreparing; from <= ContainerGone; from++ {
		for to := ContainerPreparing; to <= ContainerGone; to++ {
			want := allowed[[2]ContainerState{from, to}] || to == ContainerGone && from != ContainerGone
			if from.CanMove(to) != want {
				t.Errorf("%v to %v: %v", from, to, from.CanMove(to))
			}
		}
	}
	if got := ContainerState(99).String(); got != "invalid(99)" {
		t.Error(got)
	}
}
