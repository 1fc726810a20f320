package rows

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln/test/kilntest"
)

// Another account's request triggers code only where permission was granted, for exactly the qualifier that was granted,
// under its conditions and until it is taken back; without, nobody learns whether there is such a function. // R14
func TestAnotherAccountNeedsAGrant(t *testing.T) {
	owner := account(t)
	other, third := owner.Server.NewAccount(t), owner.Server.NewAccount(t)
	client, ctx := owner.Lambda(), context.Background()
	owner.Probe("python", "granted")
	if _, err := client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: aws.String("granted")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: aws.String("granted"), Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:lambda:us-east-1:" + owner.ID + ":function:granted"
	refused := func(who *kilntest.Account, function string) string {
		t.Helper()
		answer := who.Invoke(kilntest.Invocation{Function: function})
		answer.Refused(http.StatusForbidden, "AccessDeniedException")
		return strings.ReplaceAll(string(answer.Body), function, "ARN")
	}
	grant := func(qualifier, id, principal, source string) {
		t.Helper()
		in := &lambda.AddPermissionInput{FunctionName: aws.String("granted"), StatementId: aws.String(id), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String(principal)}
		if qualifier != "" {
			in.Qualifier = aws.String(qualifier)
		}
		if source != "" {
			in.SourceAccount = aws.String(source)
		}
		if _, err := client.AddPermission(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(id string) {
		t.Helper()
		if _, err := client.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: aws.String("granted"), StatementId: aws.String(id)}); err != nil {
			t.Fatal(err)
		}
	}
	if there, absent := refused(other, arn), refused(other, arn+"-absent"); there != absent {
		t.Errorf("a function that is there is refused with\n%s\none that is not with\n%s", there, absent)
	}
	grant("live", "alias", other.ID, "")
	refused(other, arn)
	refused(other, arn+":1")
	refused(third, arn+":live")
	answer := other.Invoke(kilntest.Invocation{Function: arn + ":live", Payload: `{"from":"other"}`})
	answer.Facts()
	record := owner.Do(kilntest.Call{Method: http.MethodGet, Path: "/kiln/v1/executions/" + answer.RequestID(), Service: "kiln"}).OK()
	var kept struct{ Account, VersionExecuted string }
	if record.JSON(&kept); kept.Account != owner.ID || kept.VersionExecuted != "1" {
		t.Errorf("the record is %s", record.Body)
	}
	for _, principal := range []string{other.ID, "arn:aws:iam::" + other.ID + ":root", "*"} {
		grant("", "whole", principal, "")
		other.Invoke(kilntest.Invocation{Function: arn}).OK()
		other.Invoke(kilntest.Invocation{Function: owner.ID + ":function:granted", Qualifier: "$LATEST"}).OK()
		if principal != "*" {
			refused(third, arn)
		}
		remove("whole")
		refused(other, arn)
	}
	grant("", "source", "*", other.ID)
	other.Invoke(kilntest.Invocation{Function: arn}).OK()
	refused(third, arn)
	grant("", "service", "s3.amazonaws.com", "")
	refused(third, arn)
	if answer := other.Do(kilntest.Call{Method: http.MethodGet, Path: "/2015-03-31/functions/" + arn}); answer.Status != http.StatusForbidden {
		t.Errorf("a grant to invoke lets another account read: %d %s", answer.Status, answer.Body)
	}
	owner.Invoke(kilntest.Invocation{Function: "granted"}).OK()
}
