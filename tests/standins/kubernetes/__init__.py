"""A stand-in for a Kubernetes API server, with toy controllers and a toy kubelet. It is not Kubernetes.

    with StandinKubernetes(rbac=True, pods="processes", folder=tmp_path) as k8s:
        k8s.kubeconfig(tmp_path / "kubeconfig")                      # an administrator's
        k8s.kubeconfig(tmp_path / "robot", user="system:serviceaccount:default:gateway", namespace="default")
        k8s.objects("pods", namespace="default", selector="app=x")   # what is there now
        k8s.until(lambda: ..., timeout_s=10)                         # waits for a fact

`python -m tests.standins.kubernetes --folder DIR` serves people until Ctrl-C. Real kubectl, Helm 3 and Helm 4 work on
it: discovery, OpenAPI 3, create, apply (client and server side), diff, scale, rollout, logs, watch, delete.

Pods. `pods="processes"`: each container's command runs as a process here. `images={"prefix": [argv...]}` is the
entrypoint of images (a container's `command` replaces it, `args` are added). A pod has a loopback address of its own
(127.x.y.z, status.podIP), so that containerPort stays as written: for that the text 0.0.0.0 in commands, env and
mounted text files becomes that address. Mount paths become folders below the stand-in's, in the same places; the
service account's files (token, namespace, ca.crt) are in $STANDIN_SERVICE_ACCOUNT as well. Probes, preStop, grace,
restarts with back-off are real; seconds between probes and of back-off are multiplied by `pace` (0.1).
`pods="statuses"`: only statuses, ready after `ready_after_s`. `pods="none"`: nobody runs them.

Faults on command: `kill_pod(name, reason=)`, `evict_pod(name)`, `lose_node(name)`, `find_node(name)`,
`break_image(text)`, `mend_image(text)`, `down()`, `up()`, `cut_watches()`, `slow(seconds)`, `forget_history()` (older
resourceVersions are 410 from then on), GPUs by `nodes={"node-0": 8}` (GPUs of each; a pod too many is Unschedulable).

`rbac=True`: Role, RoleBinding, ClusterRole and ClusterRoleBinding are obeyed, 403 as the real one words it. It is
served by TLS then (or with `tls=True`): without, kubectl sends no token. The CA is in the kubeconfig.

`scaling.py` reckons what an HPA or a KEDA ScaledObject would do with given metrics. Nothing here does that by itself.

What it lacks: admission (but for a few rules: names, selectors, pods' containers), quotas, most defaults, pages of
lists, field ownership of server-side apply (no conflicts, a manager's last configuration only), services' addresses
and DNS, network policies, resources' enforcement, volumes' permissions, storage versions. It is stricter in one thing:
unknown fields are refused whatever `fieldValidation` says. Nothing verified with it is verified with Kubernetes.
"""

from tests.standins.kubernetes.standin import StandinKubernetes

__all__ = ["StandinKubernetes"]
